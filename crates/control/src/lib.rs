//! What an agent decides on its own in milliseconds and seconds: reflex, regulation, envelope. Pure.
