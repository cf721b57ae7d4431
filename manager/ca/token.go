package ca

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"shoal/internal/pki"
	"shoal/raftstore/state"
)

// Tokens derives the cluster's join tokens, to be shown to a user.
func Tokens(v *state.View) (swarm.JoinTokens, error) {
	cluster := v.Cluster()
	if cluster == nil {
		return swarm.JoinTokens{}, fmt.Errorf("no cluster: %w", errdefs.ErrUnavailable)
	}
	root, err := pki.ParseRoot(cluster.RootCert, cluster.RootKey)
	if err != nil {
		return swarm.JoinTokens{}, fmt.Errorf("root of cluster %s: %w", cluster.ID, err)
	}
	worker, err := root.Token(pki.RoleWorker, cluster.Tokens.Worker.Generation)
	if err != nil {
		return swarm.JoinTokens{}, err
	}
	manager, err := root.Token(pki.RoleManager, cluster.Tokens.Manager.Generation)
	if err != nil {
		return swarm.JoinTokens{}, err
	}
	return swarm.JoinTokens{Worker: worker.Text(), Manager: manager.Text()}, nil
}

// RotateTokens returns a copy of cluster whose join tokens for roles are of the
// next generation: the ones shown before let nobody in any more.
func RotateTokens(cluster *state.Cluster, roles ...pki.Role) (*state.Cluster, error) {
	root, err := pki.ParseRoot(cluster.RootCert, cluster.RootKey)
	if err != nil {
		return nil, fmt.Errorf("root of cluster %s: %w", cluster.ID, err)
	}
	next := *cluster
	for _, role := range roles {
		var stored *state.Token
		switch role {
		case pki.RoleWorker:
			stored = &next.Tokens.Worker
		case pki.RoleManager:
			stored = &next.Tokens.Manager
		default:
			return nil, fmt.Errorf("role %q has no join token: %w", role, errdefs.ErrInvalidArgument)
		}
		token, err := root.Token(role, stored.Generation+1)
		if err != nil {
			return nil, err
		}
		*stored = state.Token{Generation: stored.Generation + 1, Hash: token.Hash()}
	}
	return &next, nil
}

// RotateTokens rotates the join tokens of roles.
func (c *CA) RotateTokens(ctx context.Context, roles ...pki.Role) error {
	err := c.store.Update(ctx, func(v *state.View) ([]state.Change, error) {
		cluster := v.Cluster()
		if cluster == nil {
			return nil, fmt.Errorf("no cluster: %w", errdefs.ErrUnavailable)
		}
		next, err := RotateTokens(cluster, roles...)
		if err != nil {
			return nil, err
		}
		return []state.Change{state.Put(next)}, nil
	})
	if err != nil {
		return fmt.Errorf("rotate join tokens: %w", err)
	}
	return nil
}

// roleOf is the role that a token gives. Both tokens are compared whatever the
// first comparison says, each in constant time.
func roleOf(cluster *state.Cluster, text string) (pki.Role, error) {
	if text == "" {
		return "", pki.ErrTokenRefused
	}
	token, err := pki.ParseToken(text)
	if err != nil {
		return "", err
	}
	root, err := pki.ParseCert(cluster.RootCert)
	if err != nil {
		return "", fmt.Errorf("root of cluster %s: %w", cluster.ID, err)
	}
	worker, manager := token.Matches(cluster.Tokens.Worker.Hash), token.Matches(cluster.Tokens.Manager.Hash)
	switch {
	case token.Digest != pki.Digest(root):
		return "", pki.ErrTokenRefused
	case manager:
		return pki.RoleManager, nil
	case worker:
		return pki.RoleWorker, nil
	}
	return "", pki.ErrTokenRefused
}
