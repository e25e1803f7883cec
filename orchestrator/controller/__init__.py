"""The controller: looks at what is wanted and what is there, and does what the plan says.

main.py       the process: one active controller by a lease in the database
reconcile.py  one Space: gather a View, make a plan, carry it out
sight.py      what the runtime shows, as far as it is known
admission.py  the line in front of the runtime
loops.py      signals, watches and periods that say which Space to look at
"""
