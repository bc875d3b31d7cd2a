//! Any packets in any order.
