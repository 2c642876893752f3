package metrics

import (
	"context"
	"errors"
	"net/http"
)

// IdentifiedSender submits samples of an agent that gets and replaces its key itself.
type IdentifiedSender struct {
	Sender   *Sender
	Identity *Identity
}

// Send submits samples as Sender does; the agent enrols before, and replaces its key after it, when
// it is time.
func (s *IdentifiedSender) Send(ctx context.Context, samples [][]byte) error {
	if err := s.Identity.Prepare(ctx); err != nil {
		return err
	}
	id, err := s.Identity.ID()
	if err != nil {
		return err
	}
	s.Sender.URL = s.Identity.Manager + s.Identity.Path(id) + "/metrics"
	s.Sender.Credential.Identify(id)
	err = s.Sender.Send(ctx, samples)
	if isRefused(err) && s.Identity.FinishRotation(ctx) {
		err = s.Sender.Send(ctx, samples)
	}
	if err == nil {
		s.Identity.RotateIfDue(ctx)
	}
	return err
}

func isRefused(err error) bool {
	var failure *Failure
	return errors.As(err, &failure) && failure.Status == http.StatusUnauthorized
}
