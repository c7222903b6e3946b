"""Audits of datasets: what is wrong with their photos, for people and for programs."""
