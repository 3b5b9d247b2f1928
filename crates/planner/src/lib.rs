//! Decides the whole fleet's next hours: plan, check, explain. Pure.
