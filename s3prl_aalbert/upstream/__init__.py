"""The S3PRL upstream: UpstreamExpert and the torch.hub entries."""
