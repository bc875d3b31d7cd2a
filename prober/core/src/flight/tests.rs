//! All probes in flight.
