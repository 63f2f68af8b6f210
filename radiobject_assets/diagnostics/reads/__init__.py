"""Why reading a store is slow: access patterns measured beside yardsticks, and causes told from counters."""
