"""What Fiji asks for, over HTTP or by files: requests, and jobs that do them.

A request is a JSON file in the ``inbox/`` of a project (`requests`), the same whether the
service wrote it or a person's computer did. What became of it is a state file beside
(`Job`). There is no database: every state derives from these files, so a service that was
killed knows after its restart what was done, what still runs and what waits.
"""
