"""The service: lists over HTTP by the champion, as `rankline serve` starts it."""
