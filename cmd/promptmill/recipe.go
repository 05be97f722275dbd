package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) recipeCmd() *cobra.Command {
	c := &cobra.Command{Use: "recipe", Short: "Show or check a recipe"}
	show := &cobra.Command{
		Use:   "show [RECIPE]",
		Short: "Print a complete, commented recipe: an embedded one or a file over the one it extends",
		Args:  cobra.MaximumNArgs(1),
		RunE: run(func(_ context.Context, args []string) error {
			a.recipeArg(args)
			_, doc, err := a.loadRecipe()
			if err != nil {
				return err
			}
			_, err = a.out.Write(doc.Bytes())
			return err
		}),
	}
	check := &cobra.Command{
		Use:   "check RECIPE",
		Short: "Check a recipe strictly: every fault with file, line and what to do",
		Args:  cobra.MaximumNArgs(1),
		RunE: run(func(_ context.Context, args []string) error {
			a.recipeArg(args)
			r, _, err := a.loadRecipe()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(a.out, "recipe %s is sound\n", r.Name)
			return err
		}),
	}
	for _, sub := range []*cobra.Command{show, check} {
		a.recipeFlags(sub)
		c.AddCommand(sub)
	}
	return c
}

// recipeArg takes the recipe from the argument, where there is one.
func (a *app) recipeArg(args []string) {
	if len(args) == 1 {
		a.flags.recipe = args[0]
	}
}
