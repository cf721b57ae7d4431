package cli

// tree is every command of shoal.
func (s *shell) tree() *command {
	root := &command{
		name:  "shoal",
		short: "A container cluster that speaks Docker",
		flags: s.globalFlags(),
		commands: []*command{
			s.initCommand(), s.joinCommand(), s.leaveCommand(), s.joinTokenCommand(), s.updateCommand(),
			s.networkCommand(), s.nodeCommand(), s.serviceCommand(), s.valueCommand(secretKind), s.valueCommand(configKind), s.whyCommand(), s.rebalanceCommand(),
			s.logsCommand(), s.execCommand(), s.attachCommand(), s.copyCommand(), s.topCommand(), s.statsCommand(), s.portForwardCommand(), s.doctorCommand(), s.preflightCommand(),
			s.certificateCommand(), s.daemonCommand(), s.versionCommand(), s.completionCommand(),
		},
	}
	return root.link()
}
