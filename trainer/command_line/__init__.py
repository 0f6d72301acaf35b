"""The command line of training: its help, its checks, and what a user is told in one line."""
