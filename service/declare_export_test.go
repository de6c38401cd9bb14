package service

// CheckArgs holds the arguments of a call against their declaration.
func CheckArgs(want []Arg, args []byte) error { return checkArgs(want, args) }
