"""A shop that takes an order now and then: something to look at."""

from __future__ import annotations
