"""Costs of models: parameters, multiply-accumulates, speed and memory."""
