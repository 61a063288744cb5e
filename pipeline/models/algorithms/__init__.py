"""The models that can be trained, a file each; `pipeline.models.registry` lists them."""
