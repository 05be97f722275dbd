package evaluation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/promptmill/promptmill/transforms/facts"
	"github.com/promptmill/promptmill/transforms/settings"
	"github.com/promptmill/promptmill/transforms/source"
)

// Digest identifies the content of the inputs of bound parts (source.Digest and facts.Digest), whose place in the
// recipe is path. It finds, before any work, inputs that are not there: those faults are joined.
func Digest(ctx context.Context, path string, parts []Part) ([]string, error) {
	var out []string
	var errs []error
	for i, p := range parts {
		d, err := p.digest(ctx, fmt.Sprintf("%s[%d]", path, i))
		out, errs = append(out, d), append(errs, err)
	}
	return out, errors.Join(errs...)
}

func (p Part) digest(ctx context.Context, at string) (string, error) {
	table := func(kind, path, images string) (string, error) {
		d, err := facts.Digest(path)
		if err != nil {
			return "", fmt.Errorf("%s.%s.path: %w", at, kind, err)
		}
		if _, err := os.Stat(images); images != "" && errors.Is(err, os.ErrNotExist) && !strings.ContainsAny(images, "*?[") {
			return "", fmt.Errorf("%s.%s.images: %w: name the folder or the archive of the pictures", at, kind, err)
		}
		return d, nil
	}
	switch {
	case p.PickAPic != nil:
		return table("pickapic", p.PickAPic.Path, "")
	case p.AVA != nil:
		return table("ava", p.AVA.Path, p.AVA.Images)
	case p.SAC != nil:
		return table("sac", p.SAC.Path, p.SAC.Images)
	case p.Table != nil:
		return table("table", p.Table.Path, p.Table.Images)
	case p.Oracle != nil:
		if err := source.Inspect(ctx, p.Oracle.Prompts); err != nil {
			return "", settings.Under(at+".oracle.prompts", "source", err)
		}
		return source.Digest(ctx, p.Oracle.Prompts)
	}
	if err := source.InspectPairs(ctx, p.Generated.Pairs); err != nil {
		return "", settings.Under(at+".generated.pairs", "source", err)
	}
	return source.Digest(ctx, p.Generated.Pairs)
}
