//! Harness of the tests against the real program and the real lab.
