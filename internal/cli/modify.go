// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"gopkg.in/yaml.v3"
)

func (a *app) tpModify() *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use:   "modify FILE",
		Short: "Print a policy with another mode, without an agent",
		Long: `Prints the policy in a file with its option policy-mode set to the given mode. Comments stay; what the policy says is not checked,
that is for tetra policy check.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if mode != "enforce" && mode != "monitor" {
				return hint(fmt.Errorf("--mode: %q is not enforce or monitor", mode), "--mode monitor")
			}
			text, err := readPolicy(args[0])
			if err != nil {
				return err
			}
			out, err := withMode(text, mode)
			if err != nil {
				return fmt.Errorf("modify policy %s: %w", args[0], err)
			}
			_, err = cmd.OutOrStdout().Write(out)
			return err
		},
	}
	cmd.Flags().StringVarP(&mode, "mode", "m", "", "enforce or monitor")
	return cmd
}

// withMode sets the option policy-mode in the text of a policy. Of several documents only the first is a policy.
func withMode(text []byte, mode string) ([]byte, error) {
	var doc yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the file is empty")
		}
		return nil, err
	}
	spec, err := member(doc.Content[0], "spec", yaml.MappingNode, "!!map")
	if err != nil {
		return nil, err
	}
	options, err := member(spec, "options", yaml.SequenceNode, "!!seq")
	if err != nil {
		return nil, err
	}
	name := func(o *yaml.Node) string {
		for i := 0; o.Kind == yaml.MappingNode && i+1 < len(o.Content); i += 2 {
			if o.Content[i].Value == "name" {
				return o.Content[i+1].Value
			}
		}
		return ""
	}
	found := false
	for _, o := range options.Content {
		if name(o) != "policy-mode" {
			continue
		}
		value, err := member(o, "value", yaml.ScalarNode, "!!str")
		if err != nil {
			return nil, err
		}
		value.Value, value.Tag, found = mode, "!!str", true
	}
	if !found {
		o := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
		for _, w := range []string{"name", "policy-mode", "value", mode} {
			o.Content = append(o.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: w})
		}
		options.Content = append(options.Content, o)
	}
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := errors.Join(e.Encode(&doc), e.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// member finds a member of a mapping, and makes it if it is not there.
func member(of *yaml.Node, key string, kind yaml.Kind, tag string) (*yaml.Node, error) {
	if of.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: a mapping with %s is expected", of.Line, key)
	}
	for i := 0; i+1 < len(of.Content); i += 2 {
		if of.Content[i].Value == key {
			x := of.Content[i+1]
			if x.Kind != kind {
				return nil, fmt.Errorf("line %d: %s is of another kind than it should be", x.Line, key)
			}
			return x, nil
		}
	}
	x := &yaml.Node{Kind: kind, Tag: tag}
	of.Content = append(of.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}, x)
	return x, nil
}
