//! Tests of the whole.

mod calls;
mod suspend;
mod vcpus;
