"""The sections of a finished registration: verdict, comparison, maps, series, quality, what to do if it is bad."""
