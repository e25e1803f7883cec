"""Parts of a box's PID 1. They use `_socket` and `_signal` in place of `socket` and `signal`: those import `enum` and
`selectors`, which would cost each start of a box 10 ms more."""
