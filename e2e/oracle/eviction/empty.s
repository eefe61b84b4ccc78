// Lets main.go declare functions without a body, which the linker takes from upstream's package.
