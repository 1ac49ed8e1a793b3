"""Hub upload: a checkpoint becomes a model repository on the Hugging Face Hub.

`upload.upload_checkpoint` is the door. Only `client`, `problems` and `sending` load
huggingface_hub, and they are imported when something is to be sent.
"""
