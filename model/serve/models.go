package serve

import (
	"fmt"
	"net/http"

	"github.com/promptmill/promptmill/model"
)

// card is a model in OpenAI's list. Weights is ours: the identity that rows and logs of this model carry.
type card struct {
	ID      string `json:"id"`
	Object  string `json:"object"`
	Created int64  `json:"created"`
	OwnedBy string `json:"owned_by"`
	// Description is for people.
	Description string `json:"description"`
	Weights     string `json:"weights"`
	// Paths are those that take this model.
	Paths []string `json:"paths"`
}

// cards are the models served: one under each name.
func (s *Server) cards() []card {
	var out []card
	add := func(name, path string, info model.Info) {
		for i := range out {
			if out[i].ID == name {
				out[i].Paths = append(out[i].Paths, path)
				out[i].Description += "; " + info.Name
				out[i].Weights += "; " + info.Weights
				return
			}
		}
		out = append(out, card{
			ID: name, Object: "model", Created: s.started.Unix(), OwnedBy: "promptmill",
			Description: info.Name, Weights: info.Weights, Paths: []string{path},
		})
	}
	if m := s.models.Chat; m != nil {
		add(s.models.ChatName, "/v1/chat/completions", m.Info())
	}
	if m := s.models.Images; m != nil {
		add(s.models.ImagesName, "/v1/images/generations", m.Info())
	}
	return out
}

// list answers GET /v1/models.
func (s *Server) list(http.ResponseWriter, *http.Request) (reply, error) {
	return jsonReply{map[string]any{"object": "list", "data": s.cards()}}, nil
}

// describe answers GET /v1/models/NAME.
func (s *Server) describe(_ http.ResponseWriter, r *http.Request) (reply, error) {
	name := r.PathValue("name")
	for _, c := range s.cards() {
		if c.ID == name {
			return jsonReply{c}, nil
		}
	}
	return nil, &fault{status: http.StatusNotFound, Message: fmt.Sprintf("no model %q; GET /v1/models lists those served", name), Type: invalid, Param: "model", Code: "model_not_found"}
}

// named refuses requests for a model that is not served. Those that name none take the only one there is.
func named(asked, served, kind string) error {
	switch {
	case served == "":
		return &fault{status: http.StatusNotFound, Message: fmt.Sprintf("this server has no model for %s", kind), Type: invalid, Code: "model_not_found"}
	case asked != "" && asked != served:
		return &fault{status: http.StatusNotFound, Message: fmt.Sprintf("model: no model %q for %s; there is %q", asked, kind, served), Type: invalid, Param: "model", Code: "model_not_found"}
	}
	return nil
}
