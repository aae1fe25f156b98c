"""Tests of one service, which is there as long as they are."""
