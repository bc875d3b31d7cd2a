//! One self-contained page.
