"""The whole system on one machine: Redis, Ray, edge, agent and control under one supervisor."""
