package state

// Rebalance says what is done about tasks that would be placed better today,
// such as after a node has joined. Empty: what the next wider setting says.
type Rebalance string

// The settings.
const (
	RebalanceAuto   Rebalance = "auto"   // they are moved, one of a service at a time
	RebalanceAdvise Rebalance = "advise" // who asks is told
	RebalanceOff    Rebalance = "off"
)

// Rebalances are the settings that there are.
func Rebalances() []Rebalance { return []Rebalance{RebalanceAuto, RebalanceAdvise, RebalanceOff} }

// RebalanceOf is the setting that counts for a service: its own, else the
// cluster's, else advise: like Swarm, nothing moves unless someone said so.
func (v *View) RebalanceOf(s *Service) Rebalance {
	if s.Rebalance != "" {
		return s.Rebalance
	}
	if c := v.Cluster(); c != nil && c.Rebalance != "" {
		return c.Rebalance
	}
	return RebalanceAdvise
}
