"""The `dormouse` command. Everything here goes through the Hub API, as any other client's would."""
