"""The fault drill: broken videos, killed workers, a lost node, a full disk and a killed driver must not change one row."""
