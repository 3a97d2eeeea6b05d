"""Programs that containers get in place of the driver's: standard library or libc, one file each."""
