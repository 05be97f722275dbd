// Package embed puts pictures into rows: rows that name two pictures go in, rows that hold them come out.
//
// # Design
//
// Pictures lie in the store under their SHA-256, and all steps hand on references to them. A set whose rows hold
// their pictures reads them in the last step before its sink: what crosses a shuffle is names.
package embed

import (
	"context"
	"fmt"
	"reflect"

	"github.com/apache/beam/sdks/v2/go/pkg/beam"

	"github.com/promptmill/promptmill/model"
	"github.com/promptmill/promptmill/schemas"
	"github.com/promptmill/promptmill/store"
)

// An Item is a row that names two pictures, in the order in which they were shown, and becomes a row that holds
// them.
type Item[R schemas.Row] interface {
	Pictures() (first, second schemas.ImageRef)
	WithPictures(first, second schemas.Image) R
}

// Register lets Rows take rows of I and make rows of R: call it from an init function.
func Register[I Item[R], R schemas.Row]() {
	beam.RegisterDoFn(reflect.TypeFor[rowsFn[I, R]]())
}

// Rows reads the pictures of every row of a PCollection<I> from the store at the URL cache and returns the
// PCollection<R>. It is the last step before the sink: rows with pictures are to cross no shuffle, and no Flatten,
// which a runner may take for one.
func Rows[I Item[R], R schemas.Row](s beam.Scope, cache string, items beam.PCollection) beam.PCollection {
	return beam.ParDo(s.Scope("embed.Rows"), &rowsFn[I, R]{Cache: cache}, items)
}

type rowsFn[I Item[R], R schemas.Row] struct {
	Cache string

	store store.Store
}

func (fn *rowsFn[I, R]) Setup(ctx context.Context) (err error) {
	fn.store, err = store.Open(ctx, fn.Cache)
	return err
}

func (fn *rowsFn[I, R]) ProcessElement(ctx context.Context, it I, emit func(R)) error {
	one, other := it.Pictures()
	first, second, err := Pictures(ctx, fn.store, one, other)
	if err != nil {
		return fmt.Errorf("embed: row %s: %w", it.WithPictures(first, second).RowTie(), err)
	}
	emit(it.WithPictures(first, second))
	return nil
}

// Pictures reads two pictures from the store that has them as blobs, for a row that embeds them.
func Pictures(ctx context.Context, st store.Store, one, other schemas.ImageRef) (first, second schemas.Image, err error) {
	if first, err = picture(ctx, st, one); err == nil {
		second, err = picture(ctx, st, other)
	}
	return first, second, err
}

func picture(ctx context.Context, st store.Store, ref schemas.ImageRef) (schemas.Image, error) {
	data, err := store.GetBlob(ctx, st, ref.SHA256)
	if err != nil {
		return schemas.Image{}, fmt.Errorf("picture %s: %w", ref.SHA256, err)
	}
	info, err := model.Measure(data, model.PictureLimits{MaxPixels: int64(ref.Width) * int64(ref.Height)})
	if err != nil {
		return schemas.Image{}, fmt.Errorf("picture %s: %w", ref.SHA256, err)
	}
	return schemas.Image{Bytes: data, Path: ref.SHA256 + endings[info.Format]}, nil
}

var endings = map[string]string{"png": ".png", "jpeg": ".jpg"}
