//! Contains only the README, so that its programs are compiled with the tests.
#![doc = include_str!("../../../README.md")]
