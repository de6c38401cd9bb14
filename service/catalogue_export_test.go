package service

// MaxStale is for tests.
const MaxStale = maxStale
