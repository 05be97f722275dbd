package modeltest_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/model/modeltest"
	_ "github.com/promptmill/promptmill/model/openai"
	"github.com/promptmill/promptmill/model/responselog"
	_ "github.com/promptmill/promptmill/model/txt2img"
)

// What a server of pictures answers in place of one never gets into the store: the way that every job
// goes, from the backend through the log, ends in ErrBadPicture.
func TestBadAnswers(t *testing.T) {
	log, err := responselog.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, backend := range []string{"openai", "txt2img"} {
		for name, data := range modeltest.BadPictures(t) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				both := map[string]any{"data": []map[string][]byte{{"b64_json": data}}, "images": [][]byte{data}} // the two APIs' forms
				_ = json.NewEncoder(w).Encode(both)                                                               // the client may be gone
			}))
			t.Cleanup(srv.Close)
			wg.Go(func() {
				m, err := model.OpenImages(t.Context(), model.Spec{Backend: backend, Model: name, Endpoint: srv.URL, TotalTimeout: 300 * time.Millisecond})
				if err != nil {
					t.Error(err)
					return
				}
				_, _, err = responselog.Pictures(m, log, model.PictureLimits{}).Draw(t.Context(), model.ImageRequest{Prompt: "x", Width: 32, Height: 32})
				if !errors.Is(err, model.ErrBadPicture) {
					t.Errorf("%s answers %s: %v; want ErrBadPicture", backend, name, err)
				}
			})
		}
	}
	wg.Wait()
	if s := log.Stats(); s != (responselog.Stats{}) {
		t.Errorf("the log has %+v", s)
	}
	if err := log.Close(); err != nil {
		t.Error(err)
	}
}
