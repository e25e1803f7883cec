"""The internal API: gateways, workers, git's hooks and the local command line, on a Unix socket of its own.

Not reachable from a Space or from the network. Whoever may open the socket (mode 0600) is this installation itself;
workers show their order's token besides, so that a build can speak for itself only.
"""
