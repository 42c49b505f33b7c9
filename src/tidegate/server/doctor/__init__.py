"""The examination behind `tidegate doctor`: what keeps this gateway from working, and what to do about it.

It needs no running gateway, changes nothing, and disturbs none that runs. Every check has a deadline.
"""
