"""Converters: what other methods' public code writes, brought to the folders that `rotoscope score` reads.

layout.py what a method's output looks like; layouts.py one value per method; delivered.py which files answer which clip;
take.py the frames in them; convert.py from one folder to the other. A method that differs in data only is a value, not code.
"""
