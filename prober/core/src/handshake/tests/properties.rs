//! Any packets in any order.

use super::*;
