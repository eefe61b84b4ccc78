# What operators do beyond `make up`: each target is a scenario on a throw-away cluster that must end well.
.PHONY: join
join: build      ## a second node joins by a bootstrap token, runs a pod; an expired token is refused
	@hack/deps.sh cluster
	KUBECTL=$$(hack/kubectl.sh | tail -1) $(BIN)/cluster smoke join
