"""Reports compared with one another: two nights, a run with its baseline, shards of a run, several clusters."""
