"""The sandbox: what every command of a repository runs in, at build time and as an app.

`arguments` and `seccomp` are pure; `host` looks at the machine, `view` makes a private mount namespace for root,
`cgroups` and `usage` bound memory, `launch` starts, `probe` says what works here, `run` runs one command to its end.
`trees` walks and removes what was made in a box.
"""
