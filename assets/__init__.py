"""What we keep, as Dagster sees it: names and wires everything; the only folder that imports dagster."""
