"""The command `frontdesk`: one file a group of commands."""
