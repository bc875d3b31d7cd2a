//! The engines: what sends probes and receives their answers.

pub(crate) mod commands;
pub(crate) mod connect_jobs;
pub(crate) mod events;
pub(crate) mod kernel;
pub(crate) mod packet_loop;
pub(crate) mod packet_thread;
