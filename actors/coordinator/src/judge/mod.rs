//! Pure judgement: who vouches for what, how many must agree, and what a person is told.

pub mod advice;
pub mod answers;
pub mod claims;
pub mod locality;
pub mod names;
pub mod quorum;
pub mod sight;
pub mod workload;
