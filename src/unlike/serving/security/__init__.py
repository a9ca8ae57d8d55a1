"""Who may do what: users and roles, passwords, tokens, sessions, what is sent with every answer, and the record of it all."""
