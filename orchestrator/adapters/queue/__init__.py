"""The way to the workers, by Celery."""
