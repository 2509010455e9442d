"""The command `frontdesk`."""


def main() -> None:
    raise SystemExit(0)
