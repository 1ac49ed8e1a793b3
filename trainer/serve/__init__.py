"""An OpenAI-compatible server: engines that decode many requests at once, and the API in front."""
