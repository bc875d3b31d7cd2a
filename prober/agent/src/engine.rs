//! The engines: what sends probes and receives their answers. The main task sends commands, the engines report events.

/// Commands of the main task to the packet thread.
pub(crate) mod commands;

/// The connections of a plan, each made when it is due.
pub(crate) mod connect_jobs;

/// One connection by connect(), with banner and echo.
pub(crate) mod kernel;

/// The thread that reads the capture and sends crafted segments.
pub(crate) mod packet_thread;

/// The state machine that the packet thread runs.
pub(crate) mod packet_loop;

/// Events of the engines, for the main task.
pub(crate) mod events;
