package responselog

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/store"
)

// Pictures returns inner with log before it. The pictures' bytes are blobs of the log's store; limits
// bounds what is decoded.
func Pictures(inner model.Images, log *Log, limits model.PictureLimits) *PictureLog {
	return &PictureLog{inner, log, limits}
}

// A PictureLog draws each picture once. It is safe for concurrent use.
type PictureLog struct {
	inner  model.Images
	log    *Log
	limits model.PictureLimits
}

// Drawn is what is known of a picture without reading it.
type Drawn struct {
	// SHA256 is the lower-case hex digest of the encoded bytes, and the name of the blob.
	SHA256 string
	// Width and Height are in pixels.
	Width, Height int
	// Black says that the picture shows nothing, Flagged that the backend's safety checker
	// replaced it.
	Black, Flagged bool
}

// Info is that of the model behind.
func (p *PictureLog) Info() model.Info { return p.inner.Info() }

// Draw returns the picture of req, drawn now or before. A new one is stored, first its bytes and then
// its record, before Draw returns. For one in the log only the blob's length is looked at; if the blob
// is gone or cut off, the picture is drawn again. Usage says what was spent, after an error too.
//
// The error for what is not a sound picture within limits wraps model.ErrBadPicture and
// model.ErrRejected; it is not stored.
func (p *PictureLog) Draw(ctx context.Context, req model.ImageRequest) (Drawn, model.Usage, error) {
	k, err := pictureKey(p.inner.Info(), req)
	if err != nil {
		return Drawn{}, model.Usage{}, err
	}
	var (
		drawn Drawn
		have  bool
		usage = model.Usage{CacheHits: 1}
	)
	read := func() ([]slot, error) {
		if have {
			return nil, nil
		}
		err := p.log.read(ctx, k, 0, 1, func(r record) (bool, error) {
			d, size, err := parseDrawn(r.payload)
			if err != nil {
				return false, err
			}
			if have, err = p.whole(ctx, d.SHA256, size); have {
				drawn = d
			}
			return have, err
		})
		if err != nil || have {
			return nil, err
		}
		return []slot{{key: k}}, nil
	}
	ask := func([]slot) error {
		usage = model.Usage{}
		resp, err := p.inner.Draw(ctx, req)
		usage.Add(resp.Usage)
		usage.CacheHits = 0
		if err != nil {
			return err
		}
		if drawn, err = p.keep(ctx, k, resp); err != nil {
			return err
		}
		have = true
		return nil
	}
	if err := p.log.settle(ctx, read, ask); err != nil {
		usage.CacheHits = 0
		return Drawn{}, usage, err
	}
	p.log.hits.Add(int64(usage.CacheHits))
	return drawn, usage, nil
}

// keep stores a picture that was just drawn.
func (p *PictureLog) keep(ctx context.Context, k key, resp model.ImageResponse) (Drawn, error) {
	info, err := model.Inspect(resp.Data, p.limits)
	if err != nil {
		return Drawn{}, fmt.Errorf("%s drew no usable picture: %w: %w", p.inner.Info().Name, model.ErrRejected, err)
	}
	// The picture is paid: that its caller gave up meanwhile is no reason to lose it.
	ctx = context.WithoutCancel(ctx)
	sha, err := store.PutBlob(ctx, p.log.st, resp.Data)
	if err != nil {
		return Drawn{}, fmt.Errorf("response log: keep a picture: %w", err)
	}
	d := Drawn{SHA256: sha, Width: info.Width, Height: info.Height, Black: info.Black, Flagged: resp.Flagged}
	payload, err := formatDrawn(d, len(resp.Data))
	if err != nil {
		return Drawn{}, err
	}
	return d, p.log.append(ctx, k, 0, 1, payload)
}

// whole says whether the blob is there in its length: a crash of the machine may leave it short.
func (p *PictureLog) whole(ctx context.Context, sha string, size int64) (bool, error) {
	o, err := p.log.st.Open(ctx, store.BlobName(sha))
	if errors.Is(err, store.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("response log: look for picture %s: %w", sha, err)
	}
	return o.Size() == size, o.Close()
}

// Picture refers to the picture of that SHA-256. Its Bytes are read from the store when they are asked
// for, and checked. If they are damaged the blob is deleted, so that the next Draw draws it again, and
// the error wraps store.ErrDamaged; if they are gone it wraps store.ErrNotExist.
func (p *PictureLog) Picture(sha string) model.Picture {
	return model.Picture{SHA256: sha, Bytes: func(ctx context.Context) ([]byte, error) {
		st := p.log.st
		data, err := store.GetBlob(ctx, st, sha)
		if errors.Is(err, store.ErrDamaged) {
			data, err = store.GetBlob(ctx, st, sha) // unless it was the reading that failed
		}
		if errors.Is(err, store.ErrDamaged) {
			slog.Warn("response log: a picture is damaged and will be drawn again", "sha256", sha)
			err = errors.Join(err, st.Delete(ctx, store.BlobName(sha)))
		}
		if err != nil {
			return nil, fmt.Errorf("picture %s: %w", sha, err)
		}
		return data, nil
	}}
}

// A drawn picture's payload is its SHA-256, width, height and length in bytes, and two flags.
const (
	drawnSize   = 32 + 4 + 4 + 8 + 1
	flagBlack   = 1
	flagFlagged = 2
)

func formatDrawn(d Drawn, size int) ([]byte, error) {
	b, err := hex.DecodeString(d.SHA256)
	if err != nil {
		return nil, err
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(d.Width))
	b = binary.LittleEndian.AppendUint32(b, uint32(d.Height))
	b = binary.LittleEndian.AppendUint64(b, uint64(size))
	var flags byte
	if d.Black {
		flags |= flagBlack
	}
	if d.Flagged {
		flags |= flagFlagged
	}
	return append(b, flags), nil
}

func parseDrawn(b []byte) (d Drawn, size int64, err error) {
	if len(b) != drawnSize {
		return d, 0, errDamaged
	}
	flags := b[48]
	return Drawn{
		SHA256:  hex.EncodeToString(b[:32]),
		Width:   int(binary.LittleEndian.Uint32(b[32:])),
		Height:  int(binary.LittleEndian.Uint32(b[36:])),
		Black:   flags&flagBlack != 0,
		Flagged: flags&flagFlagged != 0,
	}, int64(binary.LittleEndian.Uint64(b[40:])), nil
}
