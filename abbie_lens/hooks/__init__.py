"""The iteration axis: addresses, sites that know their iteration, capture, and the cache."""
