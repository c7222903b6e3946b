"""What an audit found, for people and for programs: page, text, tables and contact sheets."""
